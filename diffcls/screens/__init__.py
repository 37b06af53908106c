"""Below one evaluation a class: which classes of an image are worth a race at all.

A screen looks at points *between* the prompts, at means of their embeddings, and leaves a few
classes to the race that follows. What it needs of the network is named by `Look`s, so a screen
needs no model to be tested.
"""

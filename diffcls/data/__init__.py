"""Data sets: from a name to images, labels and prompts.

`catalog` lists the data sets, `load.load_dataset` returns a `dataset.Dataset`, `sources` and
`layouts` read images, `subsets` selects some of them, and `prompts` describes their classes.
"""

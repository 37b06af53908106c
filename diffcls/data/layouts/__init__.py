"""Known data sets as their makers, or torchvision, lay them out: one file a set."""

"""Original layouts of known data sets, as in their archives or torchvision: one file per set."""

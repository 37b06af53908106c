"""Original layouts of the catalog's data sets, as in their archives or torchvision: one file each."""

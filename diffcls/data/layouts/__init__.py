"""Original layouts of the catalog's data sets, as in archives or torchvision: one file each."""

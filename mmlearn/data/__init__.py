"""Data: the scene world, COCO folders, tokenisers, downloads."""

"""Image, mask and raster files on disk."""

"""LightningDataModules for classification and segmentation."""

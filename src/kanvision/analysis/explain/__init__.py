"""Saliency maps and their faithfulness and plausibility."""

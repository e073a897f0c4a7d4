"""Face recognition that survives mislabelled training data."""

"""The built-in JFT-like data set: procedural images with multi-label, long-tailed, noisy labels."""

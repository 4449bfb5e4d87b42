"""What the image consists of: each part is a folder of files that becomes one layer. Standard library only."""

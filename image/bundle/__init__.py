"""The air-gap bundle: images, what is in them, checksums, a signature, documents, and a script that loads it all."""

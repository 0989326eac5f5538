"""The laboratory: everything that touches disk, time or configuration."""

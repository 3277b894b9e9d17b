"""The figures: each module prints one JSON line, and measures its peer in the same run."""

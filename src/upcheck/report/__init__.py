"""The sinks and what people read: results as lines, as text, as a monitoring plugin's answer."""

"""The loops that carry rows onward; they own the clock, the chance and the transactions."""

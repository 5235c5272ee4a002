"""The HTTP side: read bytes, ask a stage, render an answer."""

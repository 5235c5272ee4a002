"""A deal won in a CRM is taken back to the website session that earned it, and on to the ad platforms.

The flow, in the order of the folders: `edge` (HTTP, command line) → `parse` (bytes to values) → `domain`
(what is true) → `store` (PostgreSQL). `stages` holds the loops that carry rows from one to the next.
"""

__version__ = "0.1.0"

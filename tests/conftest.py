"""The fixtures live in fix_*.py; this file only says which of them every test may ask for."""

pytest_plugins = [
    "fix_tools",
    "fix_postgres",
    "fix_pgbouncer",
    "fix_server",
    "fix_flow",
    "fix_ledger",
    "fix_browser",
    "fix_platforms",
    "fix_deals",
    "fix_deployment",
]

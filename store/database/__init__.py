"""The database itself: URL, engine, tables and their columns, transactions, migrations, health."""

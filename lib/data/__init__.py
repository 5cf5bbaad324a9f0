"""Supabase: accounts, rows and files."""

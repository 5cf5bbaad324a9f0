"""The embedded stand-in for a Supabase project; see gateway.py."""

"""The Supabase of one machine, through the clients of its vendor."""

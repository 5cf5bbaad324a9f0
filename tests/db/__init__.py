"""The database of the product: the migrations and policies that go to Supabase, on a real Postgres."""

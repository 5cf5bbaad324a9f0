"""Hypertune's expression language, evaluated within a budget."""

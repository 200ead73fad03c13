"""Callbacks: messages to the listeners that accounts register, through a durable outbox."""

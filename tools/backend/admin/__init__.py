"""Administration of the backend: what the public API has no call for (docs/backend-admin.md)."""

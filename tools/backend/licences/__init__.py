"""FOTA licences: one pool for each account, over all versions of the API and all protocols."""

"""OMA-DM 1.2: SyncML in XML and WBXML, sessions, authentication, the tree, FUMO, SCOMO, DLOTA.

Everything here is sans-IO but `client` and the transports that carry it.
"""

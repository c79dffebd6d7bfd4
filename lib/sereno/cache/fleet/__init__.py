"""The cache of many hosts: what stands behind `sereno.cache.backend`'s verbs where `SERENO_CACHE_URL` names a server.

Loaded only then.
"""

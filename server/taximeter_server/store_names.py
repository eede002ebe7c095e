# SPDX-License-Identifier: Apache-2.0
"""Names of the documents' keys in the store. All are in one slot; those of the partitions are in native/src/keys.rs."""

CONFIGURATION = "{tx:cfg}:"
# One hash tag: the documents live together on one node of a cluster, so that one transaction can change several.
META = f"{CONFIGURATION}meta"
REVISION = f"{CONFIGURATION}revision"
KEYS = f"{CONFIGURATION}keys"
TENANTS = f"{CONFIGURATION}tenants"
PLANS = f"{CONFIGURATION}plans"
LEASES = f"{CONFIGURATION}leases"
RATE_CARDS = f"{CONFIGURATION}rate_cards"
TIMELINE = f"{CONFIGURATION}timeline"
CONFLICTS = f"{CONFIGURATION}conflicts"
LEVEL_PREFIX = f"{CONFIGURATION}level:"
AUDIT = f"{CONFIGURATION}audit"
AUDIT_OPEN = f"{CONFIGURATION}audit_open"
KEY_USES = f"{CONFIGURATION}key_uses"
SYNCED = f"{CONFIGURATION}synced"

"""What every test shares: shape annotations are checked from here on, and one real audit is made once."""

import jaxtyping

# Before anything imports assay: its annotations, shapes included, are checked from here on, in tests only.
jaxtyping.install_import_hook("assay", "beartype.beartype")

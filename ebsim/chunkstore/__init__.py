"""The content-addressed store: packs, index, reference counts, giving space back."""

"""A tea shop: the app whose tasks show what there is."""

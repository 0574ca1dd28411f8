"""Client libraries as their registries have them, doing what people do with them."""

"""Pipeline to Decision to Approved: rules, scope, selectors, manifests."""

"""The review page: photos that something is wrong with, one after the other, and what people decide about them."""

"""The shop: products, orders, and the tasks that turn an order into money, paper and mail."""

"""The Grafana dashboards with figures of a real operator in them."""

"""Whether the SLO is met in use. `judge` and `monitor` decide, pure; `scraper` reads the engines. None of them acts."""

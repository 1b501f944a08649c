"""Is the promise kept? `judge` and `monitor` decide, pure; `scraper` reads the engines. None of them acts."""

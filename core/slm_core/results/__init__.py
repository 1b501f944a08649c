"""Result files of other benchmarks, each tool's in a module of its own."""

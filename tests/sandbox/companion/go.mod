module obi-mcp/tests/sandbox/companion

go 1.26.0

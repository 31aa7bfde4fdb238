"""The worker library of Azure Functions, driven in process: loading an app, calling a function."""

"""The commands that need torch but no ONNX tools."""

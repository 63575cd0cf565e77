"""A finished run to a folder, or a repository on the hub, that others can use without this package.

``exports``    the towers as OpenVINO's and ONNX's files
``onnx``       the towers as ONNX graphs, laid from the weights
``parity``     how far each export's vectors are from this package's, on real pictures
``facts``      what is known of a run
``card``       the model card, generated from what was measured
``hub``        upload to the Hugging Face hub
``publish``    all of it in one go
"""

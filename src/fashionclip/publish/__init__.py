"""A finished run to a folder, or a repository on the hub, that others use without this package.

``exports``    the towers as OpenVINO and ONNX files
``parity``     the distance of each export's vectors from this package's, on real images
``card``       what a run folder says, and the model card with the limitations that were found
``publish``    all of it, and the upload to the Hugging Face hub
"""

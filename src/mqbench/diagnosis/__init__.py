"""What quantization costs a network, quantizer by quantizer and layer by layer, and what could be done."""

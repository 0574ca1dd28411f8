"""What tests of several layers share: processes, clients and fakes that are themselves tested."""

# Compiled here, and for the host simulator in tests/worker/comm/nccl, which has a library of its own.
set(KVEC_NCCL_SOURCES nccl_communicator.cc nccl_device_comm.cc nccl_handle.cc nccl_status.cc)
list(TRANSFORM KVEC_NCCL_SOURCES PREPEND ${CMAKE_CURRENT_LIST_DIR}/)

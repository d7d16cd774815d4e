# CUDA is optional and found by itself.
#
#   KVEC_CUDA_INCLUDE_DIR  the toolkit's headers: enough for the host simulator (tests/cusim)
#   KVEC_HAS_CUDA          whether kernels/cuda is compiled for GPUs: there is a CUDA compiler
#   KVEC_NCCL_INCLUDE_DIR  NCCL's header: enough for the tests on the host simulator
#   KVEC_HAS_NCCL          whether GPUs can be a group; the library itself is opened at run time
#
# Looked for in CUDAToolkit_ROOT, in the PATH, in /usr/local/cuda, and where deploy/local/fetch_cuda.sh
# puts it.
set(KVEC_CUDA AUTO CACHE STRING "Build the CUDA device: AUTO (when a compiler is found), ON or OFF")
set(KVEC_CUDA_ROOTS ${CUDAToolkit_ROOT} $ENV{CUDAToolkit_ROOT} /usr/local/cuda
  ${KVEC_THIRD_PARTY_DIR}/cuda ${KVEC_THIRD_PARTY_DIR}/cuda-headers)

find_path(KVEC_CUDA_INCLUDE_DIR cuda_runtime_api.h HINTS ${KVEC_CUDA_ROOTS} PATH_SUFFIXES include)
add_library(kvec_cuda_headers INTERFACE)
if(KVEC_CUDA_INCLUDE_DIR)
  target_include_directories(kvec_cuda_headers SYSTEM INTERFACE ${KVEC_CUDA_INCLUDE_DIR})
endif()

find_path(KVEC_NCCL_INCLUDE_DIR nccl.h HINTS ${KVEC_CUDA_ROOTS} PATH_SUFFIXES include)
add_library(kvec_nccl_headers INTERFACE)
if(KVEC_NCCL_INCLUDE_DIR)
  target_include_directories(kvec_nccl_headers SYSTEM INTERFACE ${KVEC_NCCL_INCLUDE_DIR})
endif()

set(KVEC_HAS_CUDA OFF)
set(KVEC_HAS_NCCL OFF)
if(KVEC_CUDA AND NOT KVEC_SANITIZE)  # AUTO is true, too; sanitizers cannot look into device code
  find_program(KVEC_NVCC nvcc HINTS ${KVEC_CUDA_ROOTS} PATH_SUFFIXES bin)
  if(KVEC_NVCC)
    set(CMAKE_CUDA_COMPILER ${KVEC_NVCC})
    # A build that nobody asked to have CUDA in gets intermediate code for the oldest architecture
    # only, which the driver translates for the card at the first start: kernels/cuda then adds seconds
    # to a build, not minutes. The preset "cuda" compiles for every architecture.
    if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
      set(CMAKE_CUDA_ARCHITECTURES 80-virtual)
    endif()
    if(CCACHE_PROGRAM)
      set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
    endif()
    enable_language(CUDA)
    # CMake 3.25 does not know that nvcc has C++20.
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
    set(CMAKE_CUDA_STANDARD 20)
    # CUDA 13 has no nvToolsExt, which CMake 3.25 takes for granted when it marks it deprecated.
    if(NOT TARGET CUDA::nvToolsExt)
      add_library(CUDA::nvToolsExt INTERFACE IMPORTED)
    endif()
    find_package(CUDAToolkit REQUIRED)
    set(KVEC_HAS_CUDA ON)
    if(KVEC_NCCL_INCLUDE_DIR)
      set(KVEC_HAS_NCCL ON)
      get_filename_component(KVEC_NCCL_LIBRARY_DIR ${KVEC_NCCL_INCLUDE_DIR}/../lib ABSOLUTE)
    endif()
  elseif(NOT KVEC_CUDA STREQUAL AUTO)
    message(FATAL_ERROR "KVEC_CUDA=${KVEC_CUDA}, but no nvcc in ${KVEC_CUDA_ROOTS} or the PATH. "
      "deploy/local/fetch_cuda.sh compiler fetches one.")
  endif()
endif()
message(STATUS "CUDA device: ${KVEC_HAS_CUDA}, NCCL: ${KVEC_HAS_NCCL}")

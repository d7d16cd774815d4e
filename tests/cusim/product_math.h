#ifndef KVEC_TESTS_CUSIM_PRODUCT_MATH_H_
#define KVEC_TESTS_CUSIM_PRODUCT_MATH_H_

// What a thread computes of a warpgroup's product: see wgmma.h.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <vector>

#include "tests/cusim/call_site.h"
#include "tests/cusim/device_calls.h"
#include "tests/cusim/matrix_descriptor.h"
#include "tests/cusim/products.h"
#include "tests/cusim/ptx.h"

namespace kvec::cusim {

inline constexpr int kProductDepth = 16;  // columns of A, rows of B

// A number that a product reads from shared memory.
template <typename T>
float ReadMatrix(const SharedWindow& window, uint32_t address, CallSite at) {
  const uint32_t offset = address - window.address;
  if (offset >= window.bytes) Fault("a product reads outside of an array in shared memory", at);
  const unsigned char* const number = window.begin + offset;
  if (IsUnfenced(number)) Fault("a product reads a copy that lacks fence.proxy.async", at);
  return static_cast<float>(*reinterpret_cast<const T*>(number));
}

// Of all numbers of A and B in shared memory.
inline uint64_t ChecksumOfShared(const Product& product) {
  uint64_t sum = 0;
  const auto add = [&](uint64_t descriptor, bool along_k, uint32_t size) {
    const MatrixDescriptor matrix(descriptor);
    const SharedWindow window = WindowAt(matrix.address(), product.at);
    for (uint32_t mn = 0; mn < size; ++mn) {
      for (uint32_t k = 0; k < kProductDepth; ++k) {
        const uint32_t address = matrix.AddressOf(along_k, mn, k);
        sum = sum * 31 + static_cast<uint64_t>(ReadMatrix<uint16_t>(window, address, product.at));
      }
    }
  };
  if (product.a_words == nullptr) add(product.a_descriptor, true, 64);
  add(product.b_descriptor, !product.b_along_n, static_cast<uint32_t>(product.columns));
  return sum;
}

// Row `row` of the thread's two of A, wherever it lies.
template <typename T>
void ReadRowOfA(const Product& own, size_t index, int row, float (&to)[kProductDepth]) {
  const int thread = ThreadOfWarpgroup();
  if (own.a_words == nullptr) {
    const MatrixDescriptor a(own.a_descriptor);
    const SharedWindow window = WindowAt(a.address(), own.at);
    const uint32_t m = static_cast<uint32_t>(thread / 32 * 16 + thread % 32 / 4 + row * 8);
    for (uint32_t k = 0; k < kProductDepth; ++k) {
      to[k] = ReadMatrix<T>(window, a.AddressOf(true, m, k), own.at);
    }
    return;
  }
  for (int k = 0; k < kProductDepth; ++k) {  // "Register Fragments": as of mma.m16n8k16
    const int holder = thread / 4 * 4 + k % 8 / 2;
    float pair[2];
    Widen<T>(ProductsOf(holder).begun[index].a_begun[k / 8 * 2 + row], pair);
    to[k] = pair[k % 2];
  }
}

// The thread's part of D: of each 8 columns two neighbours, in rows 8 apart.
template <typename T>
void AddProduct(const Product& own, size_t index, std::vector<float>& d) {
  float a[2][kProductDepth];
  for (int row = 0; row < 2; ++row) ReadRowOfA<T>(own, index, row, a[row]);
  const MatrixDescriptor b(own.b_descriptor);
  const SharedWindow window = WindowAt(b.address(), own.at);
  for (int col = 0; col < own.columns; ++col) {
    if (col % 8 / 2 != ThreadOfWarpgroup() % 4) continue;
    float column[kProductDepth];
    for (uint32_t k = 0; k < kProductDepth; ++k) {
      column[k] =
          ReadMatrix<T>(window, b.AddressOf(!own.b_along_n, static_cast<uint32_t>(col), k), own.at);
    }
    for (int row = 0; row < 2; ++row) {
      float& number = d[static_cast<size_t>(col / 8 * 4 + row * 2 + col % 2)];
      float sum = own.adds ? number : 0.0f;
      for (int k = 0; k < kProductDepth; ++k) sum += a[row][k] * column[k];
      number = NegatesProducts() ? -sum : sum;
    }
  }
}

}  // namespace kvec::cusim

#endif  // KVEC_TESTS_CUSIM_PRODUCT_MATH_H_

#ifndef KVEC_TESTS_KERNELS_CUDA_DEVICE_INPUT_H_
#define KVEC_TESTS_KERNELS_CUDA_DEVICE_INPUT_H_

#include <cstdint>
#include <vector>

#include "common/tensor/float_conversions.h"
#include "gtest/gtest.h"
#include "tests/kernels/cuda/kernel_test.h"

namespace kvec::kernels::cuda {

// `matrix` with each number rounded to bfloat16.
inline Matrix Rounded(const Matrix& matrix) {
  Matrix rounded(matrix.rows(), matrix.cols());
  for (int row = 0; row < matrix.rows(); ++row) {
    for (int col = 0; col < matrix.cols(); ++col) {
      rounded.at(row, col) = BFloat16ToFloat(FloatToBFloat16(matrix.at(row, col)));
    }
  }
  return rounded;
}

// A product's input in bfloat16 in the device's memory, its rows `gap` numbers apart.
class DeviceInput {
 public:
  DeviceInput(const Matrix& matrix, int gap, cudaStream_t stream)
      : rows_(matrix.rows()),
        cols_(matrix.cols()),
        stride_(matrix.cols() + gap),
        array_(Numbers(matrix, gap), stream) {}

  ProductInput input() const { return {array_.data(), NumberType::kBF16, rows_, cols_, stride_}; }

  // Waits for the stream. Fails the test where something was written between the rows.
  Matrix ToHost() const {
    const std::vector<uint16_t> numbers = array_.ToHost();
    Matrix matrix(rows_, cols_);
    for (int row = 0; row < rows_; ++row) {
      for (int col = 0; col < stride_; ++col) {
        const uint16_t number = numbers[static_cast<size_t>(row * stride_ + col)];
        if (col < cols_) {
          matrix.at(row, col) = BFloat16ToFloat(number);
        } else {
          EXPECT_EQ(number, kGapNumber) << "row " << row << ", col " << col;
        }
      }
    }
    return matrix;
  }

 private:
  static constexpr uint16_t kGapNumber = 0x1234;

  static std::vector<uint16_t> Numbers(const Matrix& matrix, int gap) {
    std::vector<uint16_t> numbers;
    for (int row = 0; row < matrix.rows(); ++row) {
      for (int col = 0; col < matrix.cols(); ++col) {
        numbers.push_back(FloatToBFloat16(matrix.at(row, col)));
      }
      numbers.insert(numbers.end(), static_cast<size_t>(gap), kGapNumber);
    }
    return numbers;
  }

  const int rows_;
  const int cols_;
  const int stride_;
  DeviceArray<uint16_t> array_;
};

}  // namespace kvec::kernels::cuda

#endif  // KVEC_TESTS_KERNELS_CUDA_DEVICE_INPUT_H_

#ifndef KVEC_TESTS_KERNELS_CPU_RANDOM_MATRIX_H_
#define KVEC_TESTS_KERNELS_CPU_RANDOM_MATRIX_H_

#include <cstdint>
#include <random>
#include <vector>

#include "kernels/tensor.h"

namespace kvec::kernels::cpu {

// A row-major matrix whose rows lie `gap` floats apart, so that kernels that mistake the number of
// columns for the stride are found out.
class Matrix {
 public:
  Matrix(int rows, int cols, int gap = 3)
      : rows_(rows),
        cols_(cols),
        stride_(cols + gap),
        values_(static_cast<size_t>(rows) * static_cast<size_t>(cols + gap), kGapValue) {
    for (int row = 0; row < rows; ++row) {
      for (int col = 0; col < cols; ++col) at(row, col) = 0;
    }
  }

  static Matrix Random(int rows, int cols, uint32_t seed, float deviation = 1.0f) {
    Matrix matrix(rows, cols);
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0.0f, deviation);
    for (int row = 0; row < rows; ++row) {
      for (int col = 0; col < cols; ++col) matrix.at(row, col) = normal(random);
    }
    return matrix;
  }

  float& at(int row, int col) { return values_[static_cast<size_t>(row * stride_ + col)]; }
  float at(int row, int col) const { return values_[static_cast<size_t>(row * stride_ + col)]; }
  int rows() const { return rows_; }
  int cols() const { return cols_; }
  Tensor tensor() { return {values_.data(), rows_, cols_, stride_}; }

  // Whether nothing was written between the rows.
  bool GapsAreIntact() const {
    for (int row = 0; row < rows_; ++row) {
      for (int64_t col = cols_; col < stride_; ++col) {
        if (values_[static_cast<size_t>(row * stride_ + col)] != kGapValue) return false;
      }
    }
    return true;
  }

  friend bool operator==(const Matrix& a, const Matrix& b) { return a.values_ == b.values_; }

 private:
  static constexpr float kGapValue = 12345.0f;

  int rows_;
  int cols_;
  int64_t stride_;
  std::vector<float> values_;
};

}  // namespace kvec::kernels::cpu

#endif  // KVEC_TESTS_KERNELS_CPU_RANDOM_MATRIX_H_

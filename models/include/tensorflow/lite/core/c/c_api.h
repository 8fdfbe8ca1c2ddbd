/* Asked for by tflitec's build script; all declarations are in tensorflow/lite/c/c_api.h. */
